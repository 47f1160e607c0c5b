# The app as the cloud runs it. The image's host was built for linux-x64 only when this was written.
FROM --platform=linux/amd64 mcr.microsoft.com/azure-functions/python:4-python3.11
ENV AzureWebJobsScriptRoot=/home/site/wwwroot
# Some of these images lack SQL Server's driver.
RUN apt-get update \
    && (odbcinst -q -d -n "ODBC Driver 18 for SQL Server" \
        || ACCEPT_EULA=Y apt-get install -y --no-install-recommends msodbcsql18 unixodbc) \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /
RUN pip install --no-cache-dir -r /requirements.txt
COPY function_app.py host.json /home/site/wwwroot/
COPY pipeline /home/site/wwwroot/pipeline
