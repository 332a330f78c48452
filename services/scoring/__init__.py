"""The scoring service: live output rows, retrieval, scores."""
