"""The MCP server of Kitaru: `kitaru-mcp` on stdio.

Tools are thin functions over `kitaru.client.KitaruClient`; what an execution is and may do is
decided there. User code is never imported here: flows run in runner processes of their own.
"""
