"""The verbs on what exists; CLI, HTTP and pages are faces of it."""
