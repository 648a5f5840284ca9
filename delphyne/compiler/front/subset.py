# SPDX-License-Identifier: Apache-2.0
"""The subset: which syntax nodes and which names of `delphyne.lang` have a rule. Importing this module puts the rules in place."""

from __future__ import annotations

import ast

from delphyne.compiler.front import arithmetic, assignment, calls, expressions, hardware, loops, primitives, scopes, statements

expressions.RULES.update(
    {
        ast.Constant: expressions.rule_constant,
        ast.Name: expressions.rule_name,
        ast.Attribute: expressions.rule_attribute,
        ast.Subscript: expressions.rule_subscript,
        ast.Tuple: expressions.rule_tuple,
        ast.IfExp: expressions.rule_conditional,
        ast.BoolOp: expressions.rule_condition,
        ast.Compare: expressions.rule_condition,
        ast.UnaryOp: expressions.rule_unary,
        ast.BinOp: arithmetic.binary,
        ast.Call: calls.call,
    }
)

statements.RULES.update(
    {
        ast.Expr: statements.rule_expression,
        ast.Assign: assignment.assign,
        ast.AnnAssign: assignment.annotated,
        ast.AugAssign: assignment.augmented,
        ast.If: statements.rule_if,
        ast.While: loops.while_loop,
        ast.For: loops.for_loop,
        ast.Return: statements.rule_return,
        ast.Assert: statements.rule_assert,
        ast.Pass: statements.rule_pass,
        ast.Break: statements.rule_break,
        ast.Continue: statements.rule_continue,
        ast.Match: statements.rule_match,
        ast.With: scopes.with_statement,
    }
)

primitives.RULES.update(primitives.rules())
primitives.RULES.update(hardware.rules())
