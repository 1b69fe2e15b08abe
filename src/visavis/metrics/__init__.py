"""Arrays and a forward function in, numbers out."""
