#!/bin/bash
#PBS -v my-var=1
#PBS -v "OPEN=1
env
