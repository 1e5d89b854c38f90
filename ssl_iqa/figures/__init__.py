"""The paper's figures: t-SNE, ranking, scatter, curves and the gallery of distortions."""
