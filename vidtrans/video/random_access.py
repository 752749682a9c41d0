"""Packets from which on a video decodes to the very pictures that decoding from its front gives."""

from __future__ import annotations

from collections.abc import Iterator

import av

# Codecs whose keyframes forget everything before them (VP8, VP9, AV1 with shown key frames, FFV1), or in which a
# picture shown after a keyframe leans on nothing before it (MPEG-1, -2, -4: at most on the two whole pictures next to
# it).
_FORGETFUL = {"vp8", "vp9", "av1", "ffv1", "mpeg1video", "mpeg2video", "mpeg4"}
# H.264, 7.4.1.2.4: only IDR pictures empty the memory; other intra pictures may be followed by ones that reach over
# them. H.265, 3.66: of an IRAP picture's followers, those shown after it do not.
_IDR = range(5, 6)
_IRAP = range(16, 22)


def can_reset(stream: av.VideoStream) -> bool:
    """Whether a keyframe of this codec can be told to be such a packet."""
    codec = stream.codec_context.codec
    return codec.intra_only or codec.canonical_name in (*_FORGETFUL, "h264", "hevc")


def resets(stream: av.VideoStream, packet: av.Packet[av.VideoStream]) -> bool:
    """Whether a packet is such a one, by the codec's own rules; also where the container calls more a keyframe."""
    name, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if name == "h264":
        lengths = extradata[4] % 4 + 1 if len(extradata) > 4 and extradata[0] == 1 else 0
        return any(head & 31 in _IDR for head in _unit_heads(bytes(packet), lengths))
    if name == "hevc":
        lengths = extradata[21] % 4 + 1 if len(extradata) > 21 and extradata[0] == 1 else 0
        return any(head >> 1 & 63 in _IRAP for head in _unit_heads(bytes(packet), lengths))
    return packet.is_keyframe and can_reset(stream)


def _unit_heads(data: bytes, lengths: int) -> Iterator[int]:
    """The first byte of every NAL unit. lengths: bytes of the length before each; 0: start codes stand there."""
    position = 0
    if not lengths:
        while (position := data.find(b"\0\0\1", position)) >= 0 and position + 3 < len(data):
            position += 3
            yield data[position]
        return
    while position + lengths < len(data):
        size = int.from_bytes(data[position : position + lengths], "big")
        position += lengths
        yield data[position]
        position += size
