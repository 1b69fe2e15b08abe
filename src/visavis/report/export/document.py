"""A LaTeX document that shows every figure and table of an export, to copy from."""

from visavis.report.export.bundle import Bundle, Plate
from visavis.report.export.escape import latex

PREAMBLE = r"""% Figures, tables and references, to copy from: for pdflatex or lualatex, and bibtex.
\documentclass[a4paper,10pt]{article}
\usepackage[width=180mm,height=250mm]{geometry}
\usepackage{iftex}
\ifpdftex
  \usepackage[T1]{fontenc}
  \usepackage{lmodern}
\else
  \usepackage{fontspec}
\fi
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\usepackage{url}
\extrafloats{200}
"""


def document(bundle: Bundle) -> str:
    """The document; it lies beside the folders figures and tables."""
    figures = [_figure(plate) for plate in bundle.plates]
    tables = [rf"\input{{tables/{name}.tex}}" for name in bundle.tables]
    return "\n".join(
        [
            PREAMBLE,
            rf"\title{{{latex(bundle.title)}}}",
            r"\author{visavis}",
            r"\date{}",
            r"\begin{document}",
            r"\maketitle",
            *(r"\section{Figures}", *figures, r"\clearpage"),
            *(r"\section{Tables}", *tables, r"\clearpage"),
            r"\nocite{*}",
            r"\bibliographystyle{plain}",
            r"\bibliography{references}",
            r"\end{document}",
            "",
        ]
    )


def _figure(plate: Plate) -> str:
    """One figure, its parts side by side as far as they fit."""
    parts = [
        rf"\includegraphics[width={figure.get_figwidth():.2f}in]{{figures/{name}.pdf}}"
        for name, figure in plate.figures.items()
    ]
    label = next(iter(plate.figures))
    return "\n".join(
        [
            r"\begin{figure}[htbp]",
            r"\centering",
            "\\hfil\n".join(parts),
            rf"\caption{{{latex(plate.caption)}}}",
            rf"\label{{fig:{label}}}",
            r"\end{figure}",
        ]
    )
