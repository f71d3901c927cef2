#!/bin/bash
#$-cwd
#$ -j y # both in one
#$
echo
