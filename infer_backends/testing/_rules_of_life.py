"""The rules about how a model is opened, shared, interrupted, closed, and stood in for.

A plain table, by heading and name: a sentence, and the advice for those who broke it.
"""

from __future__ import annotations

RULES: dict[str, dict[str, tuple[str, str]]] = {
    "Opening": {
        "options-declared": (
            "An option that nobody declared is InvalidURL, and the error lists those that are "
            "known; so is a value of another type.",
            "Declare every option by infer_backends_options, with its type and its limits, and "
            "read options[name]; an option that takes anything hides a misspelt one.",
        ),
        "options-same": (
            "An option means the same in the URL and in the call.",
            "Read options[name], which has been parsed and checked, and never url.options.",
        ),
        "secrets": (
            "No password, no token and no option that is declared as secret is in a text: of the "
            "model, the backend, an answer, an error or its causes, or in a log record.",
            "Show url.location or str(url), which mask secrets, and declare an option that holds "
            "one with secret=True. Chain no exception whose text holds the URL: raise outside of "
            "its except clause.",
        ),
        "quiet": (
            "Opening, calling and closing print nothing, warn of nothing, and log no element of a "
            "tensor and nothing from WARNING on.",
            "Take the runtime's own level of logging down when you open; what it prints from C "
            "goes round sys.stdout. What an application ought to know is an error, or a log record "
            "at INFO or below.",
        ),
    },
    "Deadlines": {
        "deadline-passed": (
            "A call whose deadline has passed is DeadlineExceeded, and no work is done for it.",
            "Begin infer with request.deadline.require('what comes').",
        ),
        "deadline-interrupts": (
            "A deadline that the caller gave ends a call in the middle of it by DeadlineExceeded, "
            "and by nothing else.",
            "Hand request.deadline.remaining() to the runtime as its time limit, or interrupt it "
            "from another thread, and map its error by whether the deadline has passed. A runtime "
            "that cannot be interrupted declares `interrupts = False`.",
        ),
        "deadline-after": (
            "After a call that ended at its deadline, the next one is answered.",
            "Undo what the interrupted call left: a flag that says stop, a connection in the "
            "middle of an answer, a slot of a pool.",
        ),
    },
    "Threads and processes": {
        "threads": (
            "Threads share a model, and each gets its own answer.",
            "Keep nothing of a call in an attribute; a runtime that cannot be shared needs a lock, "
            "or a session for each thread.",
        ),
        "fork": (
            "A model can be called in a forked child, or refuses that at once by "
            "UnsupportedOperation where the tests say `survives_fork = False`. The parent goes on.",
            "Remember os.getpid() at open, and reconnect or reload where it is another one; locks "
            "and threads of the parent are of no use there (os.register_at_fork).",
        ),
        "pickling": (
            "A pickled model opens again by its URL and options, beside the first one.",
            "Opening must not take what only one can have (a lock, a port, a file that it "
            "creates), nor change what it opens.",
        ),
        "spawn": (
            "A pickled model opens in another process.",
            "What opening needs is in the URL, the options, files or the environment: nothing that "
            "only the first process has in its memory.",
        ),
    },
    "Closing": {
        "close-again": (
            "close() may be called more than once; a call after it is ModelClosed.",
            "Let the second close() do nothing: look whether there is something to release.",
        ),
        "close-ends": (
            "Calls in flight end when the model is closed, by an answer or by ModelClosed.",
            "After close() infer may fail, by one of the library's errors: not by an exception "
            "about what is None by now, not by a wait for what will never come, and not by a "
            "crash. Take what infer needs into a local variable first.",
        ),
        "close-releases": (
            "No thread and no file descriptor is left of a model that was closed.",
            "Join the threads that you started, close files and sockets, and shut pools down. "
            "What is shared by all models is made once, and not at every open.",
        ),
    },
    "Event loops": {
        "loops-answers": (
            "An awaited call answers what a call in a thread does.",
            "infer_async and infer answer by the same code; see the rules on outputs.",
        ),
        "loops-wrong-inputs": (
            "Wrong inputs are refused in event loops as they are in threads.",
            "See the rule wrong-inputs.",
        ),
        "loops-opening": (
            "What is not opened in an event loop has the same error as in a thread.",
            "Opening is done by a thread in both cases; see the rules not-found and "
            "options-declared.",
        ),
        "loops-deadline": (
            "A deadline that has passed ends an awaited call by DeadlineExceeded.",
            "Begin infer_async with request.deadline.require('what comes'), and wait no longer "
            "than request.deadline.remaining().",
        ),
        "loops-tasks": (
            "Tasks share a model; one that is cancelled does the others no harm, and leaves no "
            "task behind.",
            "Release in a finally clause what the call holds, keep nothing of a call in an "
            "attribute, and await or cancel what you started.",
        ),
        "loops-several": (
            "Event loops use a model one after the other, and at the same time in threads.",
            "Locks, futures and connections belong to one loop: keep them by loop, and make them "
            "in the first call of each.",
        ),
        "loops-free": (
            "An event loop goes on while it waits for an answer.",
            "Call nothing that blocks in infer_async. A runtime that can only block has no "
            "infer_async at all: the library runs infer in threads then.",
        ),
        "loops-closed": (
            "A closed model stays closed in every event loop, and may be closed again.",
            "Let the second close_async() do nothing.",
        ),
    },
    "Beside others": {
        "fallback-first": (
            "With another member behind it, a backend that works answers, and its metadata is "
            "found to be the same model.",
            "Compare the metadata with the model's own, and see the rule who-answered.",
        ),
        "fallback-second": (
            "Behind a member that is down, the backend answers within the deadline of the call, "
            "and the result says who failed before.",
            "The backend may be opened late, and by another thread: keep no deadline of the open "
            "hook, and nothing that belongs to the main thread.",
        ),
        "failure-is-no-outage": (
            "A failure of the model is not taken for an outage: nobody else is asked.",
            "Unavailable, DeadlineExceeded, ProtocolError and ModelNotFound make others be asked. "
            "Raise InferenceFailed for what the same input would do elsewhere, too.",
        ),
        "outage": (
            "While its server is away, the backend raises Unavailable or DeadlineExceeded, and "
            "answers again when the server is back, without being opened anew.",
            "Map refused, reset and broken connections to Unavailable; connect anew in the next "
            "call, not only at open.",
        ),
        "outage-covered": (
            "With another member behind it, no call is lost while its server is away, and it "
            "answers again when the server is back.",
            "See the rule outage; ready() has to say what is true, so that calls come back.",
        ),
    },
    "Streams": {
        "stream-order": (
            "All responses of a stream come, in order, and say who answered.",
            "Yield each response as it comes, and return after the last; every one has "
            "backend_url.",
        ),
        "stream-outputs": (
            "The outputs of each response are the caller's own.",
            "See the rules on outputs: no buffer is used for two responses.",
        ),
        "stream-early": (
            "A reader who leaves early leaves a model that can be used.",
            "Cancel in a finally clause of the generator what was asked for, and give back what "
            "it holds.",
        ),
        "stream-deadline": (
            "The deadline is that of the whole stream.",
            "Look at request.deadline before every response, not only before the first.",
        ),
        "stream-closed": (
            "Closing the model ends its streams by ModelClosed.",
            "End what waits for the next response when close() is called.",
        ),
        "stream-refused": (
            "A model that streams is decoupled: a plain call and wrong inputs are refused.",
            "Set ModelMetadata.decoupled.",
        ),
        "stream-loops": (
            "Streams in event loops are those in threads.",
            "stream_async yields what stream does, and cancels when it is closed.",
        ),
    },
    "Sequences": {
        "sequence-together": (
            "The steps of a sequence are kept together, from the first to the last.",
            "request.options.sequence says which sequence it is, and whether the step is the first "
            "or the last.",
        ),
        "sequence-apart": (
            "Sequences are kept apart.",
            "Keep the state by the id of the sequence.",
        ),
        "sequence-ended": (
            "Nothing comes after the last step.",
            "The library refuses it: keep the flags of the first and the last step as they are.",
        ),
        "sequence-loops": (
            "Sequences in event loops are those in threads.",
            "infer_async looks at request.options.sequence as infer does.",
        ),
    },
}
