"""The rules about what a model says of itself, takes, answers and refuses.

A plain table, by heading and name: a sentence, and the advice for those who broke it.
"""

from __future__ import annotations

RULES: dict[str, dict[str, tuple[str, str]]] = {
    "Metadata": {
        "metadata": (
            "The metadata says the names, datatypes and shapes of the inputs and outputs, in the "
            "order of the model, the batch axis included, and -1 where a dimension varies.",
            "Compare ModelMetadata.inputs and .outputs with the model's own. What does no "
            "batching has max_batch_size=0.",
        ),
        "metadata-stays": (
            "The metadata is read once, when the backend is opened, and never changes.",
            "Make metadata an attribute that is set in __init__, not one that is computed or "
            "asked for anew; describe() is for those who want to know what changed.",
        ),
        "names": (
            "Names of tensors are the model's own, whatever characters are in them.",
            "Do not replace, split or escape them: they are keys, and no identifiers.",
        ),
        "declared": (
            "What the tests declare that the backend cannot do, it refuses: UnsupportedOperation "
            "when a model of `unsupported` is opened, ModelNotFound for one of `absent`. All other "
            "reference models open.",
            "Raise that error when the model is opened, where it can be known; or take the name "
            "out of the declaration, if the backend can do it by now.",
        ),
        "readiness": (
            "A backend that has ready() says that a model which answers is ready.",
            "Return True where the model would answer now, and False, without raising, where it "
            "would not or nobody can be reached.",
        ),
        "description": (
            "A backend that has describe() says of a model that did not change what it said "
            "when it was opened.",
            "Ask for the metadata in describe() as opening does, and build it by the same code.",
        ),
    },
    "Datatypes and shapes": {
        "datatypes": (
            "Every element comes back as it went, bit for bit: the extremes of each datatype, NaN, "
            "the infinities, minus zero, and bytes that hold NULs.",
            "Look for a conversion on the way: through Python numbers, text, another datatype or "
            "a string that ends at the first NUL. What a runtime cannot keep is refused with "
            "InvalidInput, and declared as `refused`.",
        ),
        "refused": (
            "An element that is declared as `refused` is refused by InvalidInput or "
            "UnsupportedOperation, and is never answered with another one.",
            "Check the elements before the runtime gets them; or take them out of `refused`, if "
            "the runtime keeps them by now.",
        ),
        "empty": (
            "A tensor without elements comes back with its shape.",
            "Do not take a size of 0 for nothing there, and do not squeeze; reshape what the "
            "runtime returns to the shape that it says.",
        ),
        "ranks": (
            "A tensor keeps its rank: a scalar is [] and not [1], and rank 5 is not special.",
            "Give the runtime array.shape as it is, and take its shape of an output as it is. What "
            "has no scalars declares the model `scalar` as unsupported or absent.",
        ),
        "memory": (
            "How an input lies in memory makes no difference: its strides, its byte order, whether "
            "it may be written to, or whether it is a part of a larger array.",
            "Read the array through NumPy (memoryview, ctypes.data with its strides) and not "
            "through array.base, and never write to it.",
        ),
        "random": (
            "Whatever the shape and the elements are, the answer is what the model computes, bit "
            "for bit.",
            "Run the example that is shown by hand; it was made as small as possible.",
        ),
    },
    "Inputs": {
        "answers": (
            "The answer is what the model computes.",
            "Compare by hand for one input. A model that rounds declares a `tolerance`.",
        ),
        "binding": (
            "Inputs come by position, by name, in one mapping, or as lists: it is one call.",
            "Take request.inputs by name. Positions are the order of metadata.inputs, so that has "
            "to be the model's own.",
        ),
        "wrong-inputs": (
            "Inputs that do not fit the model are InvalidInput, and the next call is answered.",
            "The library refuses what does not fit the metadata: say every dimension there that is "
            "fixed, and the exact datatype.",
        ),
        "inputs-untouched": (
            "Inputs are never written to, and nothing keeps them after the call.",
            "Copy what the runtime writes to. Keep no request, no array and no exception that "
            "holds frames of a call in an attribute or a cache.",
        ),
    },
    "Outputs": {
        "outputs-own": (
            "Outputs share no memory with the inputs.",
            "A model may hand an input through: copy such an output.",
        ),
        "outputs-fresh": (
            "Outputs share no memory with those of another call, and no later call changes them.",
            "Copy what the runtime will use again, such as a buffer that it owns; or let it write "
            "into an array that is made for this call.",
        ),
        "outputs-apart": (
            "The outputs of one call share no memory with each other.",
            "Two names may be one tensor to the runtime: copy the second.",
        ),
        "outputs-writable": (
            "Outputs can be written to.",
            "np.frombuffer and the like give arrays that are read-only: copy them.",
        ),
        "outputs-plain": (
            "Outputs are np.ndarray, C-contiguous, and in native byte order.",
            "np.ascontiguousarray(x), and x.astype(spec.dtype.numpy_dtype) for the byte order, "
            "copy only where they have to.",
        ),
        "outputs-declared": (
            "Outputs have the datatype, the rank and the fixed dimensions that the metadata says; "
            "BYTES are object arrays of bytes.",
            "Convert what the runtime returns to spec.dtype.numpy_dtype, encode its strings, and "
            "keep axes of length 1.",
        ),
        "outputs-requested": (
            "The response has the outputs that the request names, and no others; all of them "
            "where it names none.",
            "request.outputs is a tuple of names, or None. Ask the runtime for those alone, or "
            "drop the rest: who asked for one does not want to pay for all.",
        ),
        "who-answered": (
            "InferResponse.backend_url is the URL that answered, as str(url) gives it, and nothing "
            "is said to have failed before.",
            "Keep str(url), of the ModelURL that the open hook is given, and pass it to every "
            "response. attempts is filled in by the library.",
        ),
    },
    "Errors": {
        "not-found": (
            "A model that is not there is ModelNotFound, when it is opened.",
            "Map the runtime's own error, or look for the file before the runtime does. "
            "PermissionDenied is for a file that may not be read, Unavailable for a server that "
            "does not answer.",
        ),
        "model-failed": (
            "A failure of the model itself is InferenceFailed, and the next call is answered.",
            "Wrap the call of the runtime, and map what it raises; the model `reshaped` fails "
            "unless it gets six elements.",
        ),
        "errors-own": (
            "What infer raises is one of the library's errors, whatever the runtime raised.",
            "`except TheRuntimesError as exc: raise InferenceFailed(...) from exc`, around every "
            "call of the runtime; its conversions may raise, too.",
        ),
        "errors-chained": (
            "The exception of the runtime is the cause of the error.",
            "Write `raise InferenceFailed(...) from exc`, not `from None`, and not outside of the "
            "except clause.",
        ),
        "errors-pickle": (
            "Errors survive pickling and copying, with their texts.",
            "Raise the library's own classes, with one message. A class of your own has to take "
            "one message, too.",
        ),
        "errors-private": (
            "No element of a tensor is in the text of an error, or in a log record.",
            "Say names, datatypes and shapes. A runtime may show elements in its own texts: do not "
            "pass those on unread.",
        ),
    },
}
