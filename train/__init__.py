from benchmarks.missing_extra import explain_missing_packages

explain_missing_packages("train")
