"""The paper's figures and tables out of folders of runs."""
