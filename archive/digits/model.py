"""The digit reader: rectifies the quadrilateral, then classifies it."""

import torch
from torch import nn


def quad_to_square(corners: torch.Tensor, side: int) -> torch.Tensor:
    """Homographies that take quadrilaterals to a square of `side` pixels.

    The closed form of P. Heckbert, "Fundamentals of Texture Mapping and Image Warping" (1989), section 2.2: the
    square's map to the quadrilateral, then its adjugate, which is its inverse up to the scale a homography is free of.

    Args:
        corners: float [N, 4, 2], the pixels (x, y) that go to the centres of the square's top-left, top-right,
            bottom-right and bottom-left pixels. No three may be on a line.
        side: pixels of the square, 2 or more.

    Returns:
        float64 [N, 3, 3], source to destination pixels, scaled to a largest magnitude of 1.
    """
    x, y = corners.double().unbind(dim=2)
    x0, x1, x2, x3 = x.unbind(dim=1)
    y0, y1, y2, y3 = y.unbind(dim=1)
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    determinant = dx1 * dy2 - dx2 * dy1
    g = (sx * dy2 - dx2 * sy) / determinant
    h = (dx1 * sy - sx * dy1) / determinant
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    scale = float(side - 1)
    rows = [
        torch.stack([(e - f * h), (c * h - b), (b * f - c * e)], dim=1) * scale,
        torch.stack([(f * g - d), (a - c * g), (c * d - a * f)], dim=1) * scale,
        torch.stack([(d * h - e * g), (b * g - a * h), (a * e - b * d)], dim=1),
    ]
    matrix = torch.stack(rows, dim=1)
    return matrix / matrix.abs().amax(dim=[1, 2], keepdim=True)


class DigitReader(nn.Module):
    """Label and probabilities of the digit inside a quadrilateral of a grey image.

    Brightness, contrast and polarity (ink darker or lighter than the paper) are normalised, so that a photograph needs
    no preparation.
    """

    def __init__(self) -> None:
        super().__init__()
        # Pixels per side at which the quadrilateral is sampled; averaging 2 x 2 of them halves the camera's noise.
        self.side = 32
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10))

    def rectify(self, image: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        """The quadrilateral as a square of normalised contrast: float32 [N, 1, 16, 16]."""
        matrix = quad_to_square(corners, self.side)
        square = torch.ops.opserve.warp_perspective(image.unsqueeze(1), matrix, [self.side, self.side])
        square = nn.functional.avg_pool2d(square, 2)
        centred = square - square.mean(dim=[2, 3], keepdim=True)
        deviation = centred.square().mean(dim=[2, 3], keepdim=True).sqrt()
        return centred / (deviation + 1.0)

    def logits(self, image: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        """Unnormalised scores, float32 [N, 10]; arguments as in `forward`."""
        return self.classifier(self.features(self.rectify(image, corners)))

    def forward(self, image: torch.Tensor, corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reads a batch.

        Args:
            image: float32 [N, H, W], 0 (black) to 255 (white).
            corners: float32 [N, 4, 2], pixels (x, y) of the digit's top-left, top-right, bottom-right, bottom-left.

        Returns:
            label int64 [N], probabilities float32 [N, 10].
        """
        probabilities = self.logits(image, corners).softmax(dim=1)
        return probabilities.argmax(dim=1), probabilities
