"""Every stage of the flow, in the order in which a run comes to them."""

from tasks import (
    ability,
    align,
    dataset,
    edit,
    evaluate,
    filter,
    generate,
    ingest,
    merge,
    model_signals,
    overlap,
    parallel,
    promote,
    register,
    report,
    signals,
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
        translate,
        parallel,
        signals,
        model_signals,
        filter,
        dataset,
        align,
        edit,
        merge,
        generate,
        evaluate,
        ability,
        report,
        register,
        promote,
    )
)
