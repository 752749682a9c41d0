"""CycleGAN's pool (Shrivastava 2017): a discriminator sees fakes of earlier steps among the fresh ones (J10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtrans.train.draws import Draws
from vidtrans.train.ranks import Ranks


class ImagePool(nn.Module):
    """The last `size` fakes that were swapped in. It is part of the run's state, and the same on every rank.

    Until it is full, fakes pass and are kept. Then each fake, in the order of samples, passes with probability 1/2;
    otherwise it takes the place of a random one of the pool, which is shown instead.
    """

    kept: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        """shape: of one fake, (3, H, W)."""
        super().__init__()
        self.register_buffer("kept", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def exchange(self, fresh: Tensor, draws: Draws, ranks: Ranks) -> Tensor:
        """What the discriminator sees in place of this rank's fresh fakes (n, 3, H, W); no gradient."""
        shown = ranks.everyones(fresh.detach().to(self.kept.dtype)).clone()
        own = ranks.number * draws.count
        everyone = Draws(draws.seed, draws.step, draws.first - own, ranks.count * draws.count)
        chances = everyone.uniform("pool", torch.empty(len(shown), 2, dtype=torch.float64)).tolist()
        filled, size = int(self.filled), len(self.kept)
        for row, (coin, place) in enumerate(chances):
            if filled < size:
                self.kept[filled] = shown[row]
                filled += 1
            elif coin < 0.5:
                slot = int(place * size)
                old = self.kept[slot].clone()
                self.kept[slot] = shown[row]
                shown[row] = old
        self.filled.fill_(filled)
        return shown.chunk(ranks.count)[ranks.number].to(fresh.dtype)
