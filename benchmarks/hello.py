"""The smallest server the SDK makes, which `benchmarks.mcp` measures Kitaru's against."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("hello", log_level="WARNING")


@server.tool()
def hello(name: str) -> str:
    """Greets somebody by name."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    server.run()
