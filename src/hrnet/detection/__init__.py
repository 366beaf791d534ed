"""Objects with boxes, classes and masks: a pyramid on HRNetV2p and one of three detectors that read it."""
