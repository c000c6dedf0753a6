"""`rlt bench`: which benchmark carries out which word; each stands beside what it measures."""

from pathlib import Path

from server.configs import BenchConfig


def main(config: BenchConfig) -> None:
    """Carries out `rlt bench`; only what is asked for is loaded."""
    if config.what == "serve":
        from server.bench import main as bench_service

        bench_service(config)
    else:
        from teacher.bench.score import run as bench_scorer

        bench_scorer(Path(config.out), rounds=config.rounds, quick=config.quick, threads=config.threads)
