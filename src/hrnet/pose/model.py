"""The pose network: a backbone and a head with one heatmap per keypoint."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from hrnet.nn.backbone import init_normal, set_norm_momentum
from hrnet.nn.representation import PixelHead
from hrnet.nn.task import Batch, TaskModel
from hrnet.pose.processor import PoseOutput, PoseProcessor
from hrnet.pose.spec import PoseSpec
from hrnet.results import Poses


class PoseModel(TaskModel[PoseSpec, Poses]):
    """A top-down pose network."""

    def __init__(self, spec: PoseSpec) -> None:
        super().__init__(spec)
        self.processor = PoseProcessor(spec)
        keypoints, widths = len(spec.skeleton), spec.backbone.widths
        if spec.representation == "v1":
            self.head: nn.Module = nn.Conv2d(widths[0], keypoints, spec.head_kernel, padding=spec.head_kernel // 2)
        else:
            self.head = PixelHead(widths, keypoints, spec.head_kernel, spec.backbone.align_corners)
        init_normal(self)
        set_norm_momentum(self, spec.backbone.norm_momentum)

    def forward(self, images: Float[Tensor, "n c h w"]) -> PoseOutput:
        maps = self.backbone(self.normalize(images))
        return PoseOutput(self.head(maps[0] if self.spec.representation == "v1" else maps))

    def loss(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return half the mean squared error over batch, keypoints and pixels.

        The targets are `heatmaps` (`n k h w`) and their `weights` (`n k`), as the codec encodes them; heatmaps of weight 0
        count as errors of 0.
        """
        errors = self(batch.images).heatmaps.float() - batch.targets["heatmaps"]
        return {"heatmaps": 0.5 * (batch.targets["weights"][..., None, None] * errors).square().mean()}

    def named_outputs(self) -> dict[str, tuple[str, ...]]:
        return {"head" if self.spec.representation == "v1" else "head.classify": self.spec.skeleton.names}
