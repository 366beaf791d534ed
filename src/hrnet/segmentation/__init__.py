"""A class for every pixel: HRNetV2 and two 1x1 convolutions on the concatenation of its maps."""
