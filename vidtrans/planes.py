"""Large planes on a CPU: the proven twins, by OpenCV, of what plain torch does several times slower there.

One frame's plane at a time stays in the cache, which is most of the gain. On other devices, and where a twin does not
apply, the plain way is taken.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.latents import Fields


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """(n, C, h, w) floats to (n, C, height, width), bilinear; the same tensor where nothing changes.

    Equal to torch's bilinear interpolation (pixel centres, borders repeated) within a few units of float32.
    """
    if x.shape[-2:] == (height, width):
        return x
    shrinks = height < x.shape[-2] or width < x.shape[-1]
    if shrinks or x.device.type != "cpu":
        return F.interpolate(x.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks)
    made = np.empty((x.shape[0] * x.shape[1], height, width), np.float32)
    for plane, out in zip(x.float().contiguous().flatten(0, 1).numpy(), made, strict=True):
        cv2.resize(plane, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(made).view(*x.shape[:2], height, width)


def best_class(scores: Tensor, height: int, width: int) -> Tensor:
    """Class scores (n, K, h, w) -> (n, height, width) int32: the class of the highest score, the first of equals.

    The scores are scaled and then the best class is chosen, so no class is ever mixed out of two others.
    """
    if scores.device.type != "cpu" or height < scores.shape[-2] or width < scores.shape[-1]:
        return resized(scores, height, width).argmax(1).to(torch.int32)
    count, classes = scores.shape[:2]
    made = np.zeros((count, height, width), np.uint8 if classes <= 256 else np.int32)
    scaled = np.empty((height, width), np.float32)
    for frame, best in zip(scores.float().contiguous().numpy(), made, strict=True):
        highest = cv2.resize(frame[0], (width, height), interpolation=cv2.INTER_LINEAR)
        for number in range(1, classes):
            cv2.resize(frame[number], (width, height), dst=scaled, interpolation=cv2.INTER_LINEAR)
            best[scaled > highest] = number
            cv2.max(highest, scaled, dst=highest)
    return torch.from_numpy(made).to(torch.int32)


def moved(left: Tensor, right: Tensor, motion: Fields) -> Tensor:
    """Both keyframes' planes (C, H, W), moved to every instant and blended: (n, C, H, W).

    What `motion.on(H, W).blend(left, right)` gives; on a CPU by OpenCV's remap, which reads float positions exactly
    (from OpenCV 5 on).
    """
    height, width = left.shape[-2:]
    if left.device.type != "cpu":
        return motion.on(height, width).blend(left, right)
    rows, columns = motion.to_left.shape[-2:]
    ratio = torch.tensor([width / columns, height / rows]).view(2, 1, 1)
    share = resized(motion.right_share, height, width)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = torch.from_numpy(np.stack([x, y]))
    read = []
    for planes, displacement in ((left, motion.to_left), (right, motion.to_right)):
        positions = (resized(displacement, height, width) * ratio + grid).numpy()
        made = np.empty((len(positions), len(planes), height, width), np.float32)
        for (across, down), out in zip(positions, made, strict=True):
            for plane, target in zip(planes.float().contiguous().numpy(), out, strict=True):
                cv2.remap(plane, across, down, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REPLICATE)
        read.append(torch.from_numpy(made))
    return torch.lerp(read[0], read[1], share)
