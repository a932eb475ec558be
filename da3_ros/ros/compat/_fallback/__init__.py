"""Our own implementations, for machines without the upstream packages; see the package above."""
