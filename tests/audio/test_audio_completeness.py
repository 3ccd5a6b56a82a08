from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from audio_files import CODECS, RATE, encode, noise, read_or_refuse, save

from tome_audio.audio import AudioError, read_audio
from tome_audio.audio.completeness import ends_with_last_ogg_page, missing_part, missing_wav_bytes


def riff(declared, present, magic=b"RIFF", order="<", before=b""):
    body = b"WAVE" + before + b"data" + struct.pack(order + "I", declared) + bytes(present)
    return io.BytesIO(magic + struct.pack(order + "I", len(body)) + body)


def ogg_page(body, flags):
    laces = [255] * (len(body) // 255) + [len(body) % 255]
    return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(laces)]) + bytes(laces) + body


@pytest.mark.parametrize(("magic", "order"), [(b"RIFF", "<"), (b"RIFX", ">")])
@pytest.mark.parametrize(
    ("declared", "present", "missing"), [(100, 100, 0), (100, 37, 63), (100, 0, 100), (100, 150, 0)]
)
def test_missing_wav_bytes(magic, order, declared, present, missing):
    assert missing_wav_bytes(riff(declared, present, magic, order)) == missing


def test_chunks_before_the_data_are_skipped_with_their_pad_byte():
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    assert missing_wav_bytes(riff(100, 90, before=odd)) == 10


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RF64\xff\xff\xff\xffWAVEds64", b"fLaC" + bytes(50)])
def test_files_that_say_nothing_lack_nothing(content):
    assert missing_wav_bytes(io.BytesIO(content)) == 0


def test_ogg_needs_a_whole_last_page_with_its_flag():
    first, last = ogg_page(bytes(700), 0x02), ogg_page(bytes(300), 0x04)
    assert ends_with_last_ogg_page(io.BytesIO(first + last))
    assert ends_with_last_ogg_page(io.BytesIO(first + last + b"TAG"))
    assert not ends_with_last_ogg_page(io.BytesIO(first))
    for cut in range(1, len(last) + 1):
        assert not ends_with_last_ogg_page(io.BytesIO((first + last)[:-cut]))
    assert not ends_with_last_ogg_page(io.BytesIO(b""))


@pytest.mark.parametrize(
    ("container", "promised", "decoded", "complete"),
    [
        ("FLAC", 1000, 1000, True),
        ("FLAC", 1000, 999, False),
        ("FLAC", 2**63 - 1, 999, True),
        ("MP3", 10000, 8848, True),
        ("MP3", 10000, 8847, False),
        ("AIFF", 1000, 10, False),
    ],
)
def test_frame_counts(container, promised, decoded, complete):
    assert (missing_part(io.BytesIO(), container, promised, decoded) is None) == complete


CUTS = [1, 2, 3, 5, 10, 40, 44, 45, 60, *np.linspace(0.001, 0.999, 37).tolist()]


@pytest.fixture(scope="module")
def contents():
    contents = {kind: encode(noise(3.0), kind) for kind in CODECS}
    contents["opus"] = encode(noise(3.0), "ogg", subtype="OPUS")
    contents["float"] = encode(np.stack([noise(3.0)] * 2, 1), "wav", subtype="FLOAT")
    return contents


class TestCut:
    @pytest.mark.parametrize("kind", ["wav", "float", "flac", "ogg", "opus"])
    @pytest.mark.parametrize("cut", CUTS)
    def test_is_refused_where_the_format_can_tell(self, tmp_path, contents, kind, cut):
        content = contents[kind]
        size = cut if isinstance(cut, int) else int(cut * len(content))
        assert read_or_refuse(save(tmp_path, f"cut.{kind}", content[:size])) is None

    @pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus"])
    def test_by_a_single_byte_is_refused(self, tmp_path, contents, kind):
        assert read_or_refuse(save(tmp_path, f"cut.{kind}", contents[kind][:-1])) is None

    @pytest.mark.parametrize("cut", CUTS)
    def test_mp3_is_refused_or_nearly_whole(self, tmp_path, contents, cut):
        content = contents["mp3"]
        size = cut if isinstance(cut, int) else int(cut * len(content))
        waveform = read_or_refuse(save(tmp_path, "cut.mp3", content[:size]))
        assert waveform is None or len(waveform) >= 3 * RATE - 1152

    def test_message_says_so(self, tmp_path, contents):
        content = contents["wav"]
        path = save(tmp_path, "cut.wav", content[: len(content) - 1000])
        with pytest.raises(AudioError, match=r"is cut short \(the data chunk lacks 1000 bytes\); fetch"):
            read_audio(path)

    @pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3"])
    def test_whole_files_with_bytes_after_the_end_pass(self, tmp_path, contents, kind):
        # Taggers append to files; the audio is whole.
        path = save(tmp_path, f"tagged.{kind}", contents[kind] + b"TAG" + bytes(125))
        waveform = read_or_refuse(path)
        assert waveform is not None and len(waveform) == 3 * RATE

    @pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
    def test_wav_written_to_a_pipe_passes(self, tmp_path, contents, length):
        content = bytearray(contents["wav"])
        assert content[36:40] == b"data"
        struct.pack_into("<I", content, 40, length)
        assert len(read_audio(save(tmp_path, "piped.wav", content))) == 3 * RATE

    def test_flac_of_unknown_length_passes(self, tmp_path, contents):
        content = bytearray(contents["flac"])
        content[21] &= 0xF0  # STREAMINFO's 36-bit number of samples; 0 means unknown
        content[22:26] = bytes(4)
        waveform = read_audio(save(tmp_path, "piped.flac", content))
        assert torch.equal(waveform, read_audio(save(tmp_path, "whole.flac", contents["flac"])))

    def test_wav_with_other_chunks_and_odd_sizes(self, tmp_path, contents):
        content = contents["wav"]
        odd = content[:36] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + content[36:]
        assert read_or_refuse(save(tmp_path, "odd.wav", odd)) is not None
        assert read_or_refuse(save(tmp_path, "odd_cut.wav", odd[:-10])) is None
