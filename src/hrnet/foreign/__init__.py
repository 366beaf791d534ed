"""Published checkpoints of every origin: a file of weights -> (ModelSpec, state), recognized by names and shapes alone.

Nothing but tensors is taken from the file: the shapes give the width, the blocks and the number of classes. What names and
shapes cannot tell is assumed as published, and is a field of the spec that `hrnet.load` can override:

* the size of the input, and the sigma of the heatmaps;
* whether a pose network was trained for DARK or UDP (the classic codec is assumed), and which keypoints are left and
  right partners where the set is not one known by its number (17 COCO, 16 MPII): without pairs, the flip test is wrong;
* `align_corners` of an official segmentation network: True with OCR; else False as in Cityscapes, LIP
  and PASCAL-Context, True where there are 150 (ADE20K) or 171 (COCO-Stuff) classes;
* that a segmentation network without batch counters is of the PyTorch 0.4 era, and its norms are InPlaceABN's;
* `norm_momentum`, which only training uses: 0.01 for face, and for segmentation of the PyTorch 0.4 era without aligned
  corners, else 0.1; and the dropout of OCR;
* that the fusion of a backbone alone is `nearest`, as in the ImageNet trainings;
* the meaning of the classes: 19 of a segmentation network are taken for Cityscapes, 20 for LIP with its left and right
  limbs, 1000 of a classification network for ImageNet, 80 of a detector for COCO;
* the anchors, ranges, IoU thresholds and NMS of a detector, and that FCOS was trained on BGR images;
* that detectors older than mmdetection 2 place anchors and regions as `RCNNSpec.legacy` says, and were trained on RGB.
"""

from hrnet.foreign.matching import Recognized, describe, identify, read_backbone, read_foreign, recognize
from hrnet.foreign.origins import timm_state
from hrnet.foreign.reading import read_weights

__all__ = [
    "Recognized",
    "describe",
    "identify",
    "read_backbone",
    "read_foreign",
    "read_weights",
    "recognize",
    "timm_state",
]
