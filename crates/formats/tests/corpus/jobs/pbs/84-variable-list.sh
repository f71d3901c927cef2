#!/bin/bash
#PBS -v PATH,LANG=C,OPTS="-a -b",EMPTY=,URL=http://db.example/?q=1
#PBS -v TITLE=two\ words
env
