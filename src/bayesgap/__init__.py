"""bayesgap."""
