"""Tables of any size, row by row: read, predicted and written without ever being held whole."""
