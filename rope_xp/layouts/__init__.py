"""Which two features make a pair: conversion between layouts, and the layout that weights were trained with."""

from rope_xp._exports import set_public_module
from rope_xp.layouts._guess import LayoutGuess, guess_layout
from rope_xp.layouts._pairs import convert_layout

__all__ = ["LayoutGuess", "convert_layout", "guess_layout"]

set_public_module(__name__)
