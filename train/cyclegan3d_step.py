"""One step of the 3D CycleGAN: CycleGAN's, with whole clips in place of frames."""

from __future__ import annotations

from torch import Tensor, nn

from vidtrans.train.cyclegan_options import ClipOptions
from vidtrans.train.cyclegan_step import GeneratorsStep
from vidtrans.train.discriminators import Patch3d
from vidtrans.train.draws import Draws


class CycleGAN3DStep(GeneratorsStep):
    """Both generators and both discriminators see clips of data.clip frames, data.clip_distance apart."""

    options: ClipOptions

    def critic(self) -> nn.Module:
        return Patch3d(self.options.discriminator_width, norm=self.net.config.norm, places=self.options.places)

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        return self._clip, 3, height, width

    def offsets(self, draws: Draws) -> tuple[int, ...]:
        return tuple(self._distance * frame for frame in range(self._clip))

    def taken(self, clips: Tensor) -> Tensor:
        return clips
