"""Figures of merit: confusion counts, pixel accuracy, IoU, PSNR, flicker."""

from __future__ import annotations

import math

import numpy as np


class Confusion:
    """Counts of (true class, predicted class) over pixels.

    counts: (K, K) int64, rows true, columns predicted.
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Two arrays of class numbers, of one shape."""
        classes = len(self.counts)
        joint = truth.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
        self.counts += np.bincount(joint, minlength=classes * classes).reshape(classes, classes)

    @property
    def accuracy(self) -> float:
        """Share of pixels with the right class."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def iou(self) -> np.ndarray:
        """(K,) intersection over union per class; NaN for a class that is neither true nor predicted anywhere."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hit
        return np.divide(hit, union, out=np.full(len(hit), math.nan), where=union > 0)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur."""
        return float(np.nanmean(self.iou))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal to noise ratio in dB of two uint8 pictures; infinite if they are equal."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def label_flicker(labels: np.ndarray, truth: np.ndarray) -> float:
    """Share of pixels that change class from one frame to the next where the truth keeps its class; both (n, H, W)."""
    changed = (labels[1:] != labels[:-1]) & (truth[1:] == truth[:-1])
    return float(changed.mean())


def photo_flicker(pictures: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference of the pictures' and the truth's changes from frame to frame; (n, H, W, 3) uint8."""
    changes, wanted = (np.diff(frames.astype(np.int16), axis=0) for frames in (pictures, truth))
    return float(np.abs(changes - wanted).mean())
