"""The connector: plain asyncio, knows nothing of Jupyter."""
