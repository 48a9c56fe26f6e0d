"""Every stage of the flow, in the order in which a run comes to them."""

from tasks import (
    ability,
    align,
    answers,
    dataset,
    edit,
    evaluate,
    filter,
    generate,
    ingest,
    merge,
    model_signals,
    overlap,
    own_answers,
    parallel,
    promote,
    register,
    report,
    signals,
    steer,
    suite,
    translate,
    unpaired,
)

STAGES = tuple(
    module.STAGE
    for module in (
        ingest,
        suite,
        overlap,
        unpaired,
        own_answers,
        answers,
        translate,
        parallel,
        signals,
        model_signals,
        filter,
        dataset,
        align,
        edit,
        steer,
        merge,
        generate,
        evaluate,
        ability,
        report,
        register,
        promote,
    )
)
