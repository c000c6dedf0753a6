"""The server's side: explanations, scores and datasets over REST. Builds on teacher/ and student/; neither imports it.

    web/          the HTTP side: the application, what every request goes through, one route file a resource
    console/      pages for people, over the same routes
    teaching/     what is served: teachers that explain, whose weights can be exchanged, and the student that scores
    engine/       what runs the teacher's weights: vLLM over HTTP, a vLLM of ours, transformers
    datasets/     a dataset's job: problems read, units explained, rows chosen, shards exported
    batches/      a batch's job: lines of requests in, lines of responses out
    jobs/         durable work: steps claimed with a fence and committed once, by any number of workers, over DBOS
    state/        what lasts: the database, storage, keys
    service.py    the parts that a service and its workers are made of, opened in order
    serve.py      `rlt serve`; worker.py is `rlt worker`
    bench.py      `rlt bench serve`, with bench_load.py; benches.py finds the benchmark that `rlt bench` names
    ending.py     a process that was asked to end does, whatever hangs
    together.py   several coroutines at once
    wire.py       what callers send and get
    errors.py     every error that a caller can get
    configs.py    the settings of the verbs

A **job** is a dataset or a batch; its **items** are problems or lines, worked on in **units** of some tens, each of
which leaves one **shard** of rows. The **teacher** explains, the **student** scores; an **engine** runs the weights.
"""

__all__: list[str] = []
