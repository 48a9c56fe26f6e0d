"""The consistency term with each English loss: SFT, DPO, SimPO, ORPO, KL to a teacher, GRPO.

Each class is a trainer of TRL (or of transformers, for encoder-decoder models) with
:class:`~mlc.training.mixin.ConsistencyMixin` before it: give it what that trainer takes, ``consistency=`` and a
column ``variants``.
"""

from transformers import Seq2SeqTrainer
from trl import DPOTrainer, GRPOTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from mlc.training.kl import KLTrainer, Seq2SeqKLTrainer
from mlc.training.mixin import ConsistencyMixin
from mlc.training.sft import LeanSFTTrainer


class ConsistencySFTTrainer(ConsistencyMixin, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning on English answers, and the term."""


class ConsistencyLeanSFTTrainer(ConsistencyMixin, LeanSFTTrainer):
    """The same with less to compute on a CPU; what the pipeline trains with."""


class ConsistencyDPOTrainer(ConsistencyMixin, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation (Rafailov et al., arXiv 2305.18290) in English, and the term.

    Give ``ref_model``: without one, ``DPOTrainer`` loads the reference anew from the name of the policy.
    """


class ConsistencyCPOTrainer(ConsistencyMixin, CPOTrainer):  # type: ignore[misc]
    """Contrastive preference optimisation in English, and the term.

    With ``CPOConfig(loss_type="simpo", cpo_alpha=0.0)`` it is SimPO (Meng et al., arXiv 2405.14734).
    """


class ConsistencyORPOTrainer(ConsistencyMixin, ORPOTrainer):  # type: ignore[misc]
    """Odds-ratio preference optimisation (Hong et al., arXiv 2403.07691) in English, and the term."""


class ConsistencyGRPOTrainer(ConsistencyMixin, GRPOTrainer):  # type: ignore[misc]
    """Group relative policy optimisation (Shao et al., arXiv 2402.03300) on English prompts, and the term.

    A prompt whose answers are sampled several times enters the term once.
    """


class ConsistencyKLTrainer(ConsistencyMixin, KLTrainer):
    """KL to a frozen safe teacher on English answers, and the term. Takes ``teacher_model``."""


class ConsistencySeq2SeqTrainer(ConsistencyMixin, Seq2SeqTrainer):  # type: ignore[misc]
    """Supervised fine-tuning of an encoder-decoder model, and the term on its encoder's states."""


class ConsistencySeq2SeqKLTrainer(ConsistencyMixin, Seq2SeqKLTrainer):
    """KL of an encoder-decoder model to a frozen safe teacher, and the term on its encoder's states."""
