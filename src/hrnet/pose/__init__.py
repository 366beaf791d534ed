"""Keypoints of people, animals and things, top-down: HRNetV1 (or V2) and one heatmap per keypoint."""
