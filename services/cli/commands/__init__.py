"""The commands: options in, calls made, tables or JSON out."""
