"""The official conformance suite and the inspector, run against `kitaru-mcp`."""
