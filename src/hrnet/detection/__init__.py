"""Object detection: boxes, classes and masks, by a pyramid on HRNetV2p and one of three detectors."""
