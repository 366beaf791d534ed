"""One of K classes for each image: HRNetV2 and the published classification head."""
