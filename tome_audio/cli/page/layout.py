"""The page itself: a clip and a slider in, labels with and without merging and a picture out."""

from __future__ import annotations

import html
import io
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import soundfile
import torch
from PIL import Image

from tome_audio.cli.clip_view import SAMPLE_RATE
from tome_audio.cli.page.hear import BATCH, Answer, ClipError, Pair, describe_answer, draw_picture, hear, read_clip

_TITLE = "The same model, fewer tokens"
_START = "Upload a sound, record one, or take an example."
_INTRO = """\
# {title}

**{name}** hears your clip twice: as it is, and with tokens merged that say the same thing. The weights are the same,
nothing was retrained. Move the slider to ask for fewer multiply-accumulates (MACs)."""
_BROKEN = "Something went wrong with this clip; the terminal that runs the page says what."
# Fonts of the machine: the page asks nobody else for anything.
FONT, MONO = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
.message { padding: 0.6em 0.9em; border-radius: 6px; margin: 0; border: 1px solid; }
.message.good { background: #e8f4ec; border-color: #2f7d4f; color: #14432a; }
.message.plain { background: #eef2f7; border-color: #6b7c93; color: #25364d; }
.message.warning { background: #fdf3dc; border-color: #9a6b00; color: #4d3600; margin-top: 0.4em; }
.message.bad { background: #fdeaea; border-color: #b3261e; color: #6b130d; }
"""


def build_page(pair: Pair, examples: Mapping[str, Path], *, max_seconds: float) -> gr.Blocks:
    """Return the page for a model; `examples` are WAV files by the name they are shown under."""
    largest = pair.largest_target
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(_INTRO.format(title=_TITLE, name=Path(pair.loaded.name).name))
        with gr.Row():
            with gr.Column(min_width=320):
                # Not the player's own upload: it plays a file before anybody has looked at it.
                upload = gr.UploadButton(
                    f"Upload a sound, up to {max_seconds:g} s", variant="primary", elem_id="upload"
                )
                problem = gr.HTML("", elem_id="problem", padding=False)
                sound = gr.Audio(
                    label="The clip: record one, or play it", sources=["microphone"], type="filepath",
                    buttons=["download"], elem_id="sound",
                )  # fmt: skip
                if examples:
                    gr.Examples(
                        [[str(path)] for path in examples.values()], sound, example_labels=list(examples),
                        examples_per_page=len(examples),
                    )  # fmt: skip
            with gr.Column(min_width=320):
                target = gr.Slider(
                    1.0, largest, value=min(3.0, largest), step=0.1, label="Compute target: times fewer MACs",
                    info=f"1 merges nothing. {_why_the_end(pair)}", elem_id="target",
                )  # fmt: skip
                message = gr.HTML(show_message(_START), elem_id="message", padding=False)
                with gr.Row():
                    unmerged = gr.Label(label="As it is", elem_id="unmerged", min_width=150)
                    merged = gr.Label(label="With merging", elem_id="merged", min_width=150)
        gr.Markdown("### What was merged: each coloured region became one token")
        picture = gr.Image(
            label="Spectrogram with merged tokens", show_label=False, format="png", interactive=False,
            buttons=["download", "fullscreen"], elem_id="picture",
        )  # fmt: skip

        def take(path: str) -> tuple[str | None, str]:
            return take_upload(path, max_seconds)

        def answer(path: str | None, wanted: float) -> tuple[Any, ...]:
            return respond(pair, path, wanted, max_seconds)

        upload.upload(take, upload, [sound, problem], show_progress="hidden", api_visibility="private")
        # Whoever drags the slider gets the answer to where it stops.
        gr.on(
            [sound.change, target.change], answer, [sound, target], [problem, message, unmerged, merged, picture],
            trigger_mode="always_last", concurrency_limit=1, show_progress="minimal", api_visibility="private",
        )  # fmt: skip
    return page


def take_upload(path: str, max_seconds: float) -> tuple[str | None, str]:
    """Return a WAV of an uploaded clip that every browser plays, or none, and what is wrong with it as HTML."""
    try:
        waveform = read_clip(path, max_seconds)
        # In a folder of its own: gradio keeps equal uploads in one, and two people may send the same at once.
        playable = Path(tempfile.mkdtemp(dir=Path(path).parent), f"{Path(path).stem}.wav")
        soundfile.write(playable, waveform.numpy(), SAMPLE_RATE)
    except ClipError as error:
        return None, show_message(str(error), "bad")
    except Exception:
        return None, show_message(_report(), "bad")
    return str(playable), ""


def respond(pair: Pair, path: str | None, wanted: float, max_seconds: float) -> tuple[Any, ...]:
    """Return what the page shows for a clip and a target: problem, message, labels as they are and merged, picture."""
    if path is None:  # what was wrong with an upload stays there to read
        return gr.skip(), show_message(_START), None, None, None
    try:
        answer = hear(pair, path, wanted, max_seconds=max_seconds)
        picture = Image.open(io.BytesIO(draw_picture(answer)))
    except ClipError as error:
        return "", show_message(str(error), "bad"), None, None, None
    except Exception:
        return "", show_message(_report(), "bad"), None, None, None
    return "", show_answer(answer), dict(answer.unmerged), dict(answer.merged), picture


def show_message(text: str, kind: str = "plain", lead: str = "") -> str:
    """Return a message as HTML, its `lead` in bold; screen readers are told of it."""
    role = "alert" if kind == "bad" else "status"
    bold = f"<strong>{html.escape(lead)}</strong> " if lead else ""
    return f'<p class="message {kind}" role="{role}">{bold}{html.escape(text)}</p>'


def show_answer(answer: Answer) -> str:
    """Return what merging did and saved, and what to know about the clip, as HTML."""
    same = answer.unmerged[0][0] == answer.merged[0][0]
    speed, threads = answer.speedup, torch.get_num_threads()
    lead = f"{describe_answer(answer)}, {'same top label' if same else 'another top label'}."
    parts = [
        f"Measured here, {threads} thread{'s' if threads > 1 else ''}, the model alone: this clip "
        f"{speed.median:.2f} times as fast (quartiles {speed.low:.2f} to {speed.high:.2f}; "
        f"{answer.merged_ms:.1f} ms instead of {answer.unmerged_ms:.1f} ms)",
    ]
    if answer.batch_speedup is not None:
        parts[-1] += f", {BATCH} such clips at once {answer.batch_speedup.median:.2f} times"
    if speed.median < 1:
        parts.append(
            "One clip is too little work for so small a model to gain: what a merge takes is more than it saves"
        )
    text = " ".join(part.rstrip(".") + "." for part in parts)
    notes = "".join(show_message(note, "warning") for note in answer.notes)
    return show_message(text, "good" if same else "plain", lead) + notes


def _report() -> str:
    traceback.print_exc(file=sys.stderr)  # the terminal gets to see what the page must not show
    return _BROKEN


def _why_the_end(pair: Pair) -> str:
    if pair.largest_target < pair.reachable - 0.1:
        return f"{pair.largest_target:g} leaves a tenth of the work."
    return f"{pair.largest_target:g} is the most this model reaches with its {pair.n_tokens} tokens."
