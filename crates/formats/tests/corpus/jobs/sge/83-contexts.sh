#!/bin/bash
#$ -ac stage=1,kind=test -dc old -sc only=this
#$ -N ctx
./run
