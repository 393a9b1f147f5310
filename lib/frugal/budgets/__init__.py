"""Chapter 5: distill or annotate? Label sources, distillation, and the plan for a budget."""
