"""What is handed out lies on the way from the parameters to the loss, so that there are gradients by it.

A forward computes flat tensors, and hands out others that were laid out as the caller's input was. Autograd knows a
gradient by a tensor only if what is asked about was computed from that very tensor, so:

- the loss takes its gradient through the logits that are handed out, and not past them;
- where hidden states are asked for, each is laid out while the model runs, and what goes on to the next layer is taken
  from it again. That costs no more than a second look at the same numbers.

Without gradients nothing of this is done, and numbers never change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from .inputs import Call, Origin
from .layout import Layout, running

# N documents, S slots of a padded row, T tokens


def lay(flat: Tensor, origin: Origin, is_sorted: bool, hidden: float = 0.0) -> Tensor:
    """(T, ...) in the caller's order, or a rectangle (N, S, ...) with `hidden` in padding slots."""
    rows, index = origin.rows, origin.index
    if rows.valid is None:
        laid = flat if is_sorted else flat[torch.argsort(index)]
    else:
        laid = flat.new_full((len(rows.slots), *flat.shape[1:]), hidden).index_copy(0, index, flat)
    return laid if len(rows.shape) == 1 else laid.view(-1, rows.shape[-1], *flat.shape[1:])


def _unlay(laid: Tensor, origin: Origin, is_sorted: bool) -> Tensor:
    """The way back, (T, ...): padding slots are left out."""
    rows, shape = origin.rows, laid.shape[len(origin.rows.shape[-2:]) :]
    slots = laid.reshape(len(rows.slots), *shape)
    return slots if rows.valid is None and is_sorted else slots[origin.index]


@dataclass(eq=False)
class States:
    """Hidden states of one running forward, as they will be handed out."""

    origin: Origin
    is_sorted: bool
    known: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """What went on in the place of what a module gave, by their numbers in memory, and what will be handed out."""
    is_over: bool = False
    """Whether the forward has ended: a layer that is computed again for its gradient hands nothing out."""

    def passed(self, flat: Any) -> Any:
        """What goes on in the place of a hidden state (1, T, C); anything else as it is."""
        if self.is_over or not isinstance(flat, Tensor) or not flat.requires_grad:
            return flat
        if flat.dim() != 3 or flat.shape[:2] != (1, len(self.origin.index)):
            return flat
        if _key(flat) not in self.known:
            laid = _Lay.apply(flat, self)  # type: ignore[no-untyped-call]
            on = _TakenFrom.apply(laid, flat.detach(), self)  # type: ignore[no-untyped-call]
            self.known[_key(on)] = on, laid
        return self.known[_key(flat)][0]

    def handed(self, flat: Tensor) -> Tensor | None:
        """What is handed out for a tensor that modules gave or were given, or a view of it; None for others."""
        return self.known[_key(flat)][1] if _key(flat) in self.known else None

    def end(self) -> None:
        """Forget all: graphs hold this, and would hold themselves."""
        self.is_over = True
        self.known.clear()


def _key(flat: Tensor) -> Hashable:
    return flat.data_ptr(), flat.shape, flat._version


class _Lay(torch.autograd.Function):
    """Saves nothing that checkpointing would count."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, states: States) -> Tensor:
        ctx.states = states
        return lay(flat[0], states.origin, states.is_sorted)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        states: States = ctx.states
        return _unlay(grad, states.origin, states.is_sorted)[None], None


class _TakenFrom(torch.autograd.Function):
    """The flat tensor that a laid one was made of, as made of that one."""

    @staticmethod
    def forward(ctx: Any, laid: Tensor, flat: Tensor, states: States) -> Tensor:
        ctx.states = states
        return flat.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        states: States = ctx.states
        return lay(grad[0], states.origin, states.is_sorted), None, None


@contextmanager
def handing_out(model: Any, call: Call) -> Iterator[Call]:
    """The call of a forward; where its hidden states are wanted and may be asked for gradients, it knows of them."""
    wants = call.kwargs.get("output_hidden_states", getattr(model.config, "output_hidden_states", False))
    if not wants or not torch.is_grad_enabled():
        yield call
        return
    _listen(model)
    states, source = States(call.origin, call.is_sorted), call.layout.source
    read = None if source is None else States(call.source, call.is_sorted)
    layout = replace(call.layout, states=states, source=source and replace(source, states=read))
    try:
        yield replace(call, layout=layout)
    finally:
        states.end()
        if read is not None:
            read.end()


def states_of(call: Call, origin: Origin) -> States | None:
    """The hidden states of the tokens that `origin` places."""
    layouts = (call.layout, call.layout.source)
    return next((own.states for own in layouts if own and own.states and own.states.origin is origin), None)


_LISTENING = Lock()


def _listen(model: Any) -> None:
    """Let layers, and what gives or takes whole hidden states around them, use what will be handed out."""
    with _LISTENING:
        if "_yanma_listens" not in vars(model):
            for module, is_layer in _givers(model.base_model):
                module.register_forward_hook(_after)
                if is_layer:
                    module.register_forward_pre_hook(_before)
            model._yanma_listens = True


def unlisten(model: nn.Module) -> None:
    """Take the hooks off again."""
    model.__dict__.pop("_yanma_listens", None)
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if is_ours(hook)]:
                del hooks[key]


def is_ours(hook: Any) -> bool:
    """Whether a module's hook is one of this file's."""
    return hook in (_after, _before)


def _givers(base: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Layers, which stand in lists, and what stands beside the lists; whether each is a layer."""
    for owner in base.modules():
        children = list(owner.children())
        if owner is base or any(isinstance(child, nn.ModuleList) for child in children):
            for child in children:
                if isinstance(child, nn.ModuleList):
                    yield from ((layer, True) for layer in child)
                else:
                    yield child, False


def _now() -> States | None:
    layout: Layout | None = running()
    return None if layout is None else layout.states


def _before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    states = _now()
    return None if states is None or not args else (states.passed(args[0]), *args[1:])


def _after(module: nn.Module, args: Any, output: Any) -> Any:
    states = _now()
    if states is None:
        return None
    if type(output) is tuple and output:
        return (states.passed(output[0]), *output[1:])
    return states.passed(output)


def through(loss: Tensor, ways: Sequence[tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]) -> Tensor:
    """`loss` as computed from what is handed out, in the place of what that was laid out of.

    `ways`: of each tensor that the loss was computed from, itself, what is handed out, and how it is laid out.
    """
    ways = [way for way in ways if way[0] is not way[1] and way[1].requires_grad]
    if not (loss.requires_grad and ways):
        return loss
    edges = [get_gradient_edge(flat) for flat, _, _ in ways]
    known = [(ref(handed), lay) for _, handed, lay in ways]
    tensors = [tensor for flat, handed, _ in ways for tensor in (flat, handed)]
    return _Through.apply((loss, edges, known), *tensors)  # type: ignore[no-any-return, no-untyped-call]


class _Through(torch.autograd.Function):
    """The loss takes its own way back to the flat tensors, and from there the one over what is handed out.

    Where nobody holds that any more, nobody can ask for its gradient, and the flat tensors get theirs at once.
    """

    @staticmethod
    def forward(ctx: Any, own: tuple[Tensor, Any, Any], *tensors: Tensor) -> Tensor:
        ctx.own = own
        return own[0].detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loss, edges, known = ctx.own
        keeps = torch.is_grad_enabled() or torch._C._autograd._get_current_graph_task_keep_graph()
        grads = torch.autograd.grad(
            loss, edges, grad, retain_graph=keeps, create_graph=torch.is_grad_enabled(), allow_unused=True
        )
        found: list[Tensor | None] = [None]
        for own, (handed, lay) in zip(grads, known, strict=True):
            is_asked = own is not None and handed() is not None
            found += [None, lay(own)] if is_asked else [own, None]
        return tuple(found)
