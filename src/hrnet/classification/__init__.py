"""What an image shows, as one of K classes: HRNetV2 and the published classification head."""
