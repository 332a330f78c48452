"""The adaptation service: a person's history → their queries over the item table."""
