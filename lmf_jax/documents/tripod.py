"""Items of TRIPOD+AI, the reporting guideline of clinical prediction models."""

from lmf_jax.documents.checklist import Checklist, Item

BOTH, DEVELOPMENT, EVALUATION = "development and evaluation", "development", "evaluation"

TRIPOD = Checklist(
    title="TRIPOD+AI",
    reference=(
        "Checklist: Collins et al., TRIPOD+AI statement: updated guidance for reporting clinical "
        "prediction models that use regression or machine learning methods, BMJ 2024;385:e078378, "
        "doi:10.1136/bmj-2023-078378."
    ),
    note=(
        "After each title stands the kind of study that the item applies to. The part named "
        "validation here is the one that selects the model, and the outcome is the true class."
    ),
    sections=(
        (
            "Title and abstract",
            (
                Item(
                    "1",
                    "Title",
                    (),
                    "name in the title the model, the target population and the outcome.",
                    BOTH,
                ),
                Item(
                    "2",
                    "Abstract",
                    ("headline",),
                    "write the abstract by the separate checklist TRIPOD+AI for Abstracts.",
                    BOTH,
                ),
            ),
        ),
        (
            "Introduction",
            (
                Item(
                    "3a",
                    "Health care context and reason",
                    (),
                    "describe the diagnostic or prognostic problem and existing models.",
                    BOTH,
                ),
                Item(
                    "3b",
                    "Target population, purpose and users",
                    (),
                    "state for whom, by whom and where in the course of care the model is meant.",
                    BOTH,
                ),
                Item(
                    "3c",
                    "Known health inequalities",
                    (),
                    "describe inequalities between sociodemographic groups.",
                    BOTH,
                ),
                Item(
                    "4",
                    "Objectives",
                    (),
                    "state the objectives: development, evaluation or both.",
                    BOTH,
                ),
            ),
        ),
        (
            "Methods",
            (
                Item(
                    "5a",
                    "Sources of the data",
                    ("dataset", "external_data"),
                    "describe the source of each dataset, why it was used and whom it represents.",
                    BOTH,
                ),
                Item("5b", "Dates of the data", (), "give begin and end of the collection.", BOTH),
                Item(
                    "6a",
                    "Setting and centers",
                    (),
                    "describe the setting, and the number and place of the centers.",
                    BOTH,
                ),
                Item("6b", "Eligibility", ("selected",), "state the criteria.", BOTH),
                Item("6c", "Treatments", (), "describe treatments received, if relevant.", BOTH),
                Item(
                    "7",
                    "Data preparation",
                    ("preprocessing",),
                    "add earlier processing, quality checks, and differences between groups of "
                    "people.",
                    BOTH,
                ),
                Item(
                    "8a",
                    "Outcome",
                    ("dataset",),
                    "define each class, and how and when it was assessed.",
                    BOTH,
                ),
                Item(
                    "8b",
                    "Assessors of the outcome",
                    (),
                    "describe those who assigned the classes, if judgment was needed.",
                    BOTH,
                ),
                Item(
                    "8c",
                    "Blinding of the outcome",
                    (),
                    "state what the assessors of the outcome did not know.",
                    BOTH,
                ),
                Item(
                    "9a",
                    "Choice of predictors",
                    ("inputs",),
                    "state why the image alone is used.",
                    DEVELOPMENT,
                ),
                Item(
                    "9b",
                    "Definition of predictors",
                    ("preprocessing",),
                    "describe how and when the images were taken.",
                    BOTH,
                ),
                Item(
                    "9c",
                    "Assessors of predictors",
                    (),
                    "describe those who took or cropped the images, if judgment was needed.",
                    BOTH,
                ),
                Item(
                    "10",
                    "Sample size",
                    ("proportions", "units", "absent", "few_units"),
                    "explain how the size of each part was determined and why it is sufficient.",
                    BOTH,
                ),
                Item(
                    "11",
                    "Missing data",
                    (),
                    "state what was missing, how it was handled and what was left out.",
                    BOTH,
                ),
                Item(
                    "12a",
                    "Use and partition of the data",
                    ("split", "disjoint", "proportions", "folds"),
                    "",
                    DEVELOPMENT,
                ),
                Item("12b", "Handling of predictors", ("preprocessing",), "", DEVELOPMENT),
                Item(
                    "12c",
                    "Model, training and internal validation",
                    ("model", "initialization", "training", "stopping", "selection", "folds"),
                    "give the reason for the model, and how hyperparameters were tuned.",
                    DEVELOPMENT,
                ),
                Item(
                    "12d",
                    "Differences between clusters",
                    ("subgroups",),
                    "state how differences between hospitals or devices were examined.",
                    BOTH,
                ),
                Item(
                    "12e",
                    "Measures and plots of performance",
                    ("metrics", "intervals"),
                    "give the reason for the measures.",
                    BOTH,
                ),
                Item(
                    "12f",
                    "Model updating",
                    ("calibration",),
                    "describe any further change of the model after its evaluation.",
                    EVALUATION,
                ),
                Item("12g", "Computation of predictions", ("predictions",), "", EVALUATION),
                Item(
                    "13",
                    "Class imbalance",
                    ("imbalance", "loss", "sampling", "calibration"),
                    "give the reason for this treatment of the imbalance.",
                    BOTH,
                ),
                Item(
                    "14",
                    "Fairness",
                    ("subgroups",),
                    "describe what was done for fairness, and why.",
                    BOTH,
                ),
                Item(
                    "15",
                    "Output of the model",
                    ("model", "predictions", "operating_points", "prediction_sets"),
                    "give the reason for the classes and thresholds.",
                    DEVELOPMENT,
                ),
                Item(
                    "16",
                    "Differences between development and evaluation data",
                    ("external",),
                    "compare setting, eligibility, outcome and images of the datasets.",
                    BOTH,
                ),
                Item(
                    "17",
                    "Ethics",
                    (),
                    "name the ethics committee, the approval and the consent or its waiver.",
                    BOTH,
                ),
            ),
        ),
        (
            "Open science",
            (
                Item("18a", "Funding", (), "name the funding and the funders' role.", BOTH),
                Item("18b", "Conflicts of interest", (), "declare them for all authors.", BOTH),
                Item("18c", "Protocol", (), "say where it is, or that there is none.", BOTH),
                Item(
                    "18d",
                    "Registration",
                    (),
                    "give register and number, or state that the study was not registered.",
                    BOTH,
                ),
                Item("18e", "Data sharing", (), "say where the data are available.", BOTH),
                Item(
                    "18f",
                    "Code sharing",
                    ("software",),
                    "say where the code is available.",
                    BOTH,
                ),
            ),
        ),
        (
            "Patient and public involvement",
            (
                Item(
                    "19",
                    "Patient and public involvement",
                    (),
                    "describe it, or state that there was none.",
                    BOTH,
                ),
            ),
        ),
        (
            "Results",
            (
                Item(
                    "20a",
                    "Flow of participants",
                    ("proportions", "counts", "units"),
                    "add the numbers excluded at each step, with a diagram.",
                    BOTH,
                ),
                Item(
                    "20b",
                    "Characteristics of participants",
                    ("proportions", "counts"),
                    "add dates, demographics and missing data, for each source.",
                    BOTH,
                ),
                Item(
                    "20c",
                    "Comparison with the development data",
                    ("proportions", "counts", "external_data"),
                    "compare demographics and images.",
                    EVALUATION,
                ),
                Item(
                    "21",
                    "Participants and outcomes of each analysis",
                    ("proportions", "counts", "units"),
                    "add the number of participants of each part.",
                    BOTH,
                ),
                Item(
                    "22",
                    "Specification of the full model",
                    ("model", "predictions", "software"),
                    "say where the weights can be obtained, and the restrictions.",
                    DEVELOPMENT,
                ),
                Item(
                    "23a",
                    "Performance with intervals",
                    (
                        *("overall", "per_class", "absent", "few_units", "calibration"),
                        *("operating_points", "prediction_sets", "subgroups", "external"),
                    ),
                    "",
                    BOTH,
                ),
                Item(
                    "23b",
                    "Heterogeneity between clusters",
                    ("subgroups",),
                    "report it by hospital or device, if examined.",
                    BOTH,
                ),
                Item(
                    "24",
                    "Results of model updating",
                    ("calibration",),
                    "report any further updated model.",
                    EVALUATION,
                ),
            ),
        ),
        (
            "Discussion",
            (
                Item(
                    "25",
                    "Interpretation",
                    (),
                    "interpret the results, fairness included, beside earlier studies.",
                    BOTH,
                ),
                Item(
                    "26",
                    "Limitations",
                    ("limits",),
                    "discuss their effect on bias, uncertainty and generalization.",
                    BOTH,
                ),
                Item(
                    "27a",
                    "Poor or missing input",
                    (),
                    "state how unusable images are to be recognized and handled.",
                    DEVELOPMENT,
                ),
                Item(
                    "27b",
                    "Interaction and expertise of users",
                    (),
                    "state what users have to do, and what they need to know.",
                    DEVELOPMENT,
                ),
                Item("27c", "Next steps", (), "state which further studies are needed.", BOTH),
            ),
        ),
    ),
)
