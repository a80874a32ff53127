"""Items of the Checklist for Artificial Intelligence in Medical Imaging (CLAIM), 2024 update."""

from lmf_jax.documents.checklist import Checklist, Item

CLAIM = Checklist(
    title="CLAIM 2024",
    reference=(
        "Checklist: Tejani et al., Checklist for Artificial Intelligence in Medical Imaging "
        "(CLAIM): 2024 Update, Radiology: Artificial Intelligence 2024;6(4):e240300, "
        "doi:10.1148/ryai.240300."
    ),
    note=(
        "CLAIM asks to write *reference standard* for the true labels, and *tuning* or *internal "
        "testing* instead of *validation*: the part named validation here is the one for tuning."
    ),
    sections=(
        (
            "Title and abstract",
            (
                Item(
                    "1",
                    "Title names AI and the kind of method",
                    ("model",),
                    "write a title that names the method, such as deep learning.",
                ),
                Item(
                    "2",
                    "Structured abstract",
                    ("headline",),
                    "summarize design, data, methods, results with intervals, and conclusions.",
                ),
            ),
        ),
        (
            "Introduction",
            (
                Item(
                    "3",
                    "Background and intended role of the model",
                    (),
                    "describe the clinical problem, current practice and the intended use.",
                ),
                Item("4", "Aims and hypotheses", (), "state the aims, and hypotheses if any."),
            ),
        ),
        (
            "Methods: study design",
            (
                Item(
                    "5",
                    "Prospective or retrospective",
                    (),
                    "state whether the data were collected before or for the study.",
                ),
                Item(
                    "6",
                    "Goal of the study",
                    (),
                    "state the goal, such as development of a model, feasibility or a trial.",
                ),
            ),
        ),
        (
            "Methods: data",
            (
                Item(
                    "7",
                    "Sources of the data",
                    ("dataset",),
                    "cite or link the source, and say how well it represents the target "
                    "population.",
                ),
                Item(
                    "8",
                    "Inclusion and exclusion",
                    (),
                    "state how cases were found and chosen: criteria, places and dates.",
                ),
                Item(
                    "9",
                    "Preprocessing",
                    ("preprocessing",),
                    "add whatever was done to the images before they reached this program.",
                ),
                Item(
                    "10",
                    "Selected subsets of the data",
                    ("selected",),
                    "state whether images were cropped or chosen by hand, and by whom.",
                ),
                Item("11", "De-identification", (), "state how the images were de-identified."),
                Item(
                    "12",
                    "Missing data",
                    (),
                    "state how missing images, labels or metadata were handled, and which bias "
                    "may follow.",
                ),
                Item(
                    "13",
                    "Image acquisition",
                    (),
                    "state modality, devices, protocol and resolution of the originals.",
                ),
            ),
        ),
        (
            "Methods: reference standard",
            (
                Item(
                    "14",
                    "Definition of the reference standard",
                    (),
                    "define how the true label of an image was obtained.",
                ),
                Item(
                    "15",
                    "Reason for this reference standard",
                    (),
                    "give the reason, its errors and possible alternatives.",
                ),
                Item(
                    "16",
                    "Annotators",
                    (),
                    "state who annotated, their number, qualification and instructions.",
                ),
                Item(
                    "17",
                    "Annotation of the test part",
                    (),
                    "state whether the test part was annotated otherwise, and with which tools.",
                ),
                Item(
                    "18",
                    "Agreement of annotators",
                    (),
                    "report agreement within and between annotators, and how disagreement was "
                    "resolved.",
                ),
            ),
        ),
        (
            "Methods: data partitions",
            (
                Item(
                    "19",
                    "Assignment to the parts",
                    ("split", "proportions", "imbalance"),
                    "give the reason for this split.",
                ),
                Item("20", "Level at which the parts are disjoint", ("disjoint", "units")),
            ),
        ),
        (
            "Methods: testing data",
            (
                Item(
                    "21",
                    "Size of the test part",
                    ("proportions", "units", "absent", "few_units"),
                    "state how the size was determined, such as by a power calculation.",
                ),
            ),
        ),
        (
            "Methods: model",
            (
                Item("22", "Description of the model", ("model", "preprocessing")),
                Item("23", "Software", ("software", "hardware")),
                Item("24", "Initial parameters", ("initialization",)),
            ),
        ),
        (
            "Methods: training",
            (
                Item(
                    "25",
                    "Training procedure and hyperparameters",
                    ("training", "loss", "stopping"),
                    "state how the hyperparameters were chosen, and how many models were trained.",
                ),
                Item("26", "Selection of the final model", ("selection", "folds")),
                Item(
                    "27",
                    "Ensembles",
                    ("folds",),
                    "state whether the predictions of several models were combined, and how.",
                ),
            ),
        ),
        (
            "Methods: evaluation",
            (
                Item(
                    "28",
                    "Metrics",
                    ("metrics",),
                    "say which metric is the main one, and why it fits the clinical task.",
                ),
                Item(
                    "29",
                    "Uncertainty and significance",
                    ("intervals",),
                    "name the tests of differences between models, and the limit of significance.",
                ),
                Item(
                    "30",
                    "Robustness and sensitivity",
                    ("folds", "subgroups", "external_data"),
                    "describe analyses of assumptions, other seeds or changed images.",
                ),
                Item(
                    "31",
                    "Explanations",
                    ("explanations",),
                    "state whether and how the explanations were validated.",
                ),
                Item("32", "Test on internal data", ("disjoint", "selection", "headline")),
                Item(
                    "33",
                    "Test on external data",
                    ("external_data",),
                    "describe the external data, or say why there was no external test.",
                ),
                Item(
                    "34",
                    "Registration of a trial",
                    (),
                    "give the registry and number, or state that the study is no trial.",
                ),
            ),
        ),
        (
            "Results: data",
            (
                Item(
                    "35",
                    "Numbers included and excluded",
                    ("proportions", "counts", "units"),
                    "add the numbers excluded and their reasons, with a flow chart.",
                ),
                Item(
                    "36",
                    "Characteristics of the cases in each part",
                    ("proportions", "counts"),
                    "add age, sex and other characteristics of each part.",
                ),
            ),
        ),
        (
            "Results: performance",
            (
                Item(
                    "37",
                    "Performance with uncertainty",
                    ("overall", "intervals", "subgroups", "external"),
                    "add comparisons with readers or published models.",
                ),
                Item(
                    "38",
                    "Diagnostic accuracy and its precision",
                    ("per_class", "absent", "few_units", "operating_points", "calibration"),
                    "say which class and threshold matter for the clinical question.",
                ),
                Item(
                    "39",
                    "Analysis of failures",
                    ("confusions",),
                    "discuss examples of wrong results; the report of the run shows some.",
                ),
            ),
        ),
        (
            "Discussion",
            (
                Item(
                    "40",
                    "Limitations",
                    ("limits",),
                    "discuss biases, generalization and statistical uncertainty.",
                ),
                Item(
                    "41",
                    "Implications for practice",
                    (),
                    "state the intended use and role, and what is needed before any use.",
                ),
            ),
        ),
        (
            "Other information",
            (
                Item("42", "Protocol", (), "refer to the protocol or further technical details."),
                Item(
                    "43",
                    "Availability of software, model and data",
                    ("software",),
                    "state where code, weights and data can be obtained, and the conditions.",
                ),
                Item("44", "Funding", (), "name the funding and the role of the funders."),
            ),
        ),
    ),
)
