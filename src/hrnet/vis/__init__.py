"""Drawing, colors and report pages."""
