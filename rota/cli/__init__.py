"""The command line: faces of what the library does, and a demonstration of its promises."""
