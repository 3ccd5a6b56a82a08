"""Synthetic runs of the benchmarks, for tests of the report: every number here is made up by a formula."""

import json

MODELS = {"kwt1": 99, "ast_base-1024": 1214, "ast_base-128": 146, "hf_ast-1024": 1214}
RIVALS = ("merged", "merged-unfused", "merged-random", "topk-class", "random-drop")
RATES = {99: ("4", "8", "12", "[45,20,12,6]"), 146: ("4", "8", "12"), 1214: ("32", "64", "94", "[300,200,94,60,30,10]")}
LOSS = {"merged": 1.0, "merged-unfused": 1.0, "merged-random": 9.0, "topk-class": 4.0, "random-drop": 12.0}
SPEED = {"merged": 0.97, "merged-unfused": 0.6, "merged-random": 0.98, "topk-class": 0.9, "random-drop": 1.0}
ENVIRONMENT = {"python": "3.11.7", "cpu": "Synthetic CPU", "cores": "2", "threads": "2", "torch": "2.11.0+cpu"}


def record(suite="throughput", model="ast_base-1024", method="merged", r="32", **fields):
    """A complete record of a suite; `fields` replace."""
    n_tokens = fields.pop("n_tokens", None) or MODELS.get(model, 200)
    left = n_tokens if method == "unpatched" else max(2, n_tokens - 12 * rate_mean(r))
    cut = 2 * n_tokens / (n_tokens + left)
    speedup = 1 + (cut - 1) * SPEED.get(method, 1.0) if method != "unpatched" else 1.0
    base = {
        "suite": suite, "model": model, "method": method, "r": r, "batch": 8, "dtype": "float32", "device": "cpu",
        "compiled": False, "prefix_only": False, "n_tokens": n_tokens, "tokens": [n_tokens, left],
        "macs": round(1e11 / cut), "macs_cut": cut, **ENVIRONMENT, "commit": "0123456789ab",
    }  # fmt: skip
    if suite in ("throughput", "latency", "training_step", "end_to_end", "scaling", "size_bias"):
        base |= {"speedup": speedup, "speedup_low": 0.95 * speedup, "speedup_high": 1.04 * speedup, "turns": 7}
    base |= {
        "latency": {
            "latency_median_ms": 80 / speedup, "latency_p95_ms": 100 / speedup,
            "baseline_median_ms": 80.0, "baseline_p95_ms": 96.0,
        },
        "accuracy": {
            "accuracy": 97 - LOSS.get(method, 0) * (cut - 1), "accuracy_spoken": 97.5 - LOSS.get(method, 0) * (cut - 1),
            "agreement": 100 - LOSS.get(method, 0) * (cut - 1), "n_clips": 2710,
        },
        "merge_overhead": {
            "overhead": 0.03,
            "stages": {"attention": 0.4, "matching": 0.02, "merging": 0.01, "feed_forward": 0.57},
        },
        "end_to_end": {
            "stages": {"features": 0.1, "patch_embedding": 0.02, "blocks": 1 / speedup, "head": 0.001},
            "end_to_end_share": 0.9,
        },
        "memory": {"peak_bytes": round(4e8 / cut), "baseline_peak_bytes": 400_000_000},
        "flops": {"macs_fvcore": round(1e11 / cut), "macs_counter": round(1e11 / cut)},
    }.get(suite, {})  # fmt: skip
    return {**base, **fields}


def rate_mean(r):
    """Tokens merged per block of twelve, on average."""
    value = json.loads(r) if r[0] != "(" else 0
    return sum(value) // 12 if isinstance(value, list) else value


def benchmark(extra_info, seconds=None):
    """One entry of pytest-benchmark's list; without `seconds`, time grows a little faster than tokens."""
    speedup = extra_info.get("speedup") if isinstance(extra_info.get("speedup"), float) else 1.0
    median = seconds or 1e-4 * abs(extra_info["n_tokens"]) ** 1.3 / speedup
    stats = {"median": median, "rounds": 1}
    return {"name": f"test_{extra_info.get('suite')}", "extra_info": extra_info, "stats": stats}


def write_run(path, records, date="2030-01-02T03:04:05.678901+00:00"):
    """Write records as pytest-benchmark does."""
    machine = {"node": "secret-host-name", "processor": "x86_64"}
    run = {"machine_info": machine, "benchmarks": [benchmark(each) for each in records], "datetime": date}
    path.write_text(json.dumps(run))
    return path


def full_run():
    """Records of every suite, enough for every figure and block."""
    records = []
    for model, n_tokens in MODELS.items():
        for method in RIVALS:
            for r in RATES[n_tokens] if method == "merged" else RATES[n_tokens][:3]:
                for dtype in ("float32", "bfloat16"):
                    records += [record(model=model, method=method, r=r, dtype=dtype, batch=batch) for batch in (1, 8)]
                if model == "kwt1":
                    records.append(record("accuracy", model, method, r, batch=32))
        records.append(record("accuracy", model, "unpatched", "0", batch=32))
        for suite in ("latency", "training_step", "memory", "flops", "merge_overhead", "end_to_end", "size_bias"):
            records += [record(suite, model, r=r) for r in RATES[n_tokens][:2]]
        records.append(record("end_to_end", model, "unpatched", "0"))
    for n_tokens, gain in ((146, 0.8), (300, 0.95), (602, 1.1), (1214, 1.5), (5000, 2.2)):
        model = f"ast_base-{n_tokens}"
        records.append(record("scaling", model, "unpatched", "0", n_tokens=n_tokens))
        spread = {"speedup": gain, "speedup_low": 0.95 * gain, "speedup_high": 1.05 * gain}
        records.append(record("scaling", model, "merged", "16", n_tokens=n_tokens, **spread))
    return records
