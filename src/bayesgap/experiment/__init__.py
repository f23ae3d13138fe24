"""The paper's protocol for any task: kinds of classifiers, their stages, and what was measured."""
