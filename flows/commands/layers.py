"""`mlc layers`: prompts in; a table, a picture and the figures of every layer out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.terminal.display import named_bars
from flows.terminal.options import (
    DeviceOption,
    JsonOption,
    PickleOption,
    PromptsOption,
    ReferencesOption,
    SomeLanguagesOption,
    TemplateOption,
    found_policy,
    short_name,
    writable,
)
from flows.terminal.output import print_json, results, terminal
from flows.terminal.quiet import be_quiet
from mlc.choices import Pool, words_of

EXAMPLES = (
    "mlc layers shipped:tiny",
    "mlc layers Qwen/Qwen2.5-0.5B-Instruct --languages es,sw --limit 32",
)


def command(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, package:NAME or shipped:NAME.")],
    prompts: PromptsOption = None,
    references: ReferencesOption = None,
    languages: SomeLanguagesOption = None,
    limit: Annotated[int, typer.Option(min=4, help="Prompts at most, as many harmful as harmless.")] = 64,
    pool: Annotated[Literal["all", Pool], typer.Option(help="Which tokens stand for a prompt.")] = "all",
    out: Annotated[Path | None, typer.Option(help="Folder for the plot and the figures; layers-MODEL.")] = None,
    allow_pickle: PickleOption = False,
    template: TemplateOption = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts in a forward pass.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Compare the layers of a model, and recommend one.

    For the consistency term.
    """
    be_quiet()
    # Torch and transformers read the environment when they are imported, so they are imported only now.
    from flows.terminal.layer_tables import show_sweep
    from mlc.devices import pick_device
    from mlc.evaluation.layers import POOLS, sweep_layers
    from mlc.evaluation.parallel import choose_prompts, named_parallel
    from mlc.models.loading import load_policy
    from mlc.report.layer_files import notes_on, plain_figures, write_files

    everything = named_parallel(prompts, references, words_of(languages or ()), Path.cwd())
    chosen, dropped = choose_prompts(everything, limit)
    source = found_policy(model, allow_pickle=allow_pickle, template=template)
    policy = load_policy(source, device=pick_device(device))
    folder = writable(out or Path(f"layers-{short_name(model)}"))
    entries = policy.model.config.get_text_config().num_hidden_layers + 1
    pools = tuple(one for one in POOLS if pool in ("all", one))
    with named_bars(terminal) as bar:
        sweep = sweep_layers(
            policy,
            chosen,
            pools=pools,
            batch_size=batch_size,
            on_texts=bar("forward passes", int(chosen.mask.sum())),
            on_layer=bar("figures", entries * len(pools)),
        )
    notes = notes_on(sweep, chosen, dropped)
    told = plain_figures(sweep, chosen, notes, model, folder)
    write_files(sweep, told, folder)
    if as_json:
        print_json(told)
    else:
        show_sweep(sweep, chosen, notes, model, folder, results)
