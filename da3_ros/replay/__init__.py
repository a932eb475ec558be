"""Recordings through the pipeline, without transport: nothing is dropped, and every run gives the same bytes."""
